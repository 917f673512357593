"""What the subcommands of `falcon` do. Each module is imported when its command runs, not before."""
