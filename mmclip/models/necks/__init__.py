"""Necks, which turn a backbone's maps into what heads take."""
