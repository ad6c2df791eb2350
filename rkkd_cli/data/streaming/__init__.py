"""Images decoded while the training runs, by processes of their own."""
