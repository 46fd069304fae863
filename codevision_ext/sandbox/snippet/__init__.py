"""Handles a snippet, the code of one call, inside a child: mends its source, picks its images, explains its errors."""
