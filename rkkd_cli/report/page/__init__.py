"""The HTML page of ``rkkd report``: one file, read without a network or a server."""
