"""The flags of the commands: each is declared once, and ``takes`` gives a command its own."""
