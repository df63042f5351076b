"""Input and output formats that HTTP, the command line, Celery and Python share."""
