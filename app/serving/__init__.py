"""From pages to answers: the server, its guard, live updates, files to download, a frozen copy of a store."""
