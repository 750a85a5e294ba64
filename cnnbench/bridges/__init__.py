"""To and from other tools: pytest-benchmark's files and plugin, github-action-benchmark's JSON, JUnit's XML, a tidy CSV."""
