"""Exchange with other tools: pytest-benchmark's files and plugin, github-action-benchmark's JSON, a verdict as Markdown and
as JUnit's XML, a tidy CSV.
"""
