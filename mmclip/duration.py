"""Rough times, for people."""


def duration(seconds: float) -> str:
    """Format a rough time, such as '40 s' or '3 min'."""
    if seconds < 99.5:
        return f'{max(1, float(f"{seconds:.2g}")):.0f} s'
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min'
