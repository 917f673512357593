"""Starting an instance: embedded servers, supervisor, status."""
