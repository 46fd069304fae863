"""Keeps the command `python -m codevision_ext.verl_adapter.picture_budget`, which stands in launch scripts."""

from codevision_ext.models.max_pixels import main

if __name__ == "__main__":
    main()
