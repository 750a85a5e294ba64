"""The charts, each a declaration: rows and records go in, Vega-Lite specifications with their data come out.

`kinds` has what a declaration is (`ChartSpec`), the words of a specification and the three kinds of chart; `chart_data` is what
they are made from, `theme` holds sizes and colours, and every other file is one chart or a few. To add one,
declare it in the `CHARTS` of its file, with the key of the section that has it. A chart whose records do not exist is left out.
"""
