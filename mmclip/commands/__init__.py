"""The commands: arguments, one call of the package, what is printed."""
