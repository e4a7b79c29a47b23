"""The commands of `cdsa`, one file each; `cli.COMMANDS` is their table."""
