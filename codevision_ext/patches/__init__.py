"""Patches of the libraries under the package, a file for each library."""
