"""The charts: rows and records go in, Vega-Lite specifications with their data come out; nothing is drawn here.

`chart_data` is what they are made from, `theme` holds sizes and colours, and every other file is one chart or two. A chart
whose records do not exist is None, and the page leaves its section out. To add one, write a function from `ChartData` to
`Chart | None` and give it its place in `report.sections`.
"""
