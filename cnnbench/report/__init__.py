"""Make the comparison readable: rows go in, a table model comes out, and renderers turn that into text.

`naming` names a job and a processor, `cells` and `footnotes` word one row, `tables` puts them together independently of any
format, `render` writes them as text for a terminal, Markdown, LaTeX, CSV, JSON and HTML. Figures are computed elsewhere.
"""
