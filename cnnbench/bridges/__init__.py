"""To and from other tools: pytest-benchmark's files read and written, github-action-benchmark's JSON, JUnit's XML, a tidy CSV."""
