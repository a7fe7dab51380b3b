"""Reports for people: the terminal's table, Markdown, and the HTML page."""
