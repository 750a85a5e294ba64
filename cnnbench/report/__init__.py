"""What the comparison says, made readable: rows go in, a table model comes out, and renderers turn that into text.

`naming` names a job and a processor, `cells` and `footnotes` word one row, `tables` puts them together without knowing any
format, `text` writes terminal, Markdown, LaTeX, CSV and JSON. Nothing here computes a figure.
"""
