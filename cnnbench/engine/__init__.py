"""The engine wing: what runs inside a worker process. It imports torch and is imported by nothing outside the worker."""
