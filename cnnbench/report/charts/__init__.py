"""The charts, each a declaration: rows and records go in, Vega-Lite specifications with their data come out.

`kinds` defines declarations (`ChartSpec`), the words of a specification and the three kinds of chart; `chart_data` is their
input, `theme` has sizes and colours, and every other file declares one chart or a few. To add a chart, declare it in the
`CHARTS` of its file, with the key of its section. A chart without records is left out.
"""
