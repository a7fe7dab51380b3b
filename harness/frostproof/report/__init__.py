"""Reports for people: the table in the terminal, Markdown, and the HTML page."""
