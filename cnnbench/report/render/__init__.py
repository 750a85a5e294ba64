"""One module for each format: a report or a page goes in, text for a terminal, Markdown, LaTeX, CSV, JSON or HTML comes out."""
