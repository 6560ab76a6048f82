"""Where runs and records lie. One file a kind of store; today `run_directory`."""
