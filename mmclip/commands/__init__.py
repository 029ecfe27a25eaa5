"""The commands: each parses arguments, calls the package, prints results."""
