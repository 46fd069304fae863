"""Handles a snippet, the code of one call, in a child process: corrects its source, chooses images, explains errors."""
