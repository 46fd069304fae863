"""Keeps the command `python -m codevision_ext.verl_adapter.check_recipe`, which stands in launch scripts."""

from codevision_ext.preflight.recipe import main

if __name__ == "__main__":
    main()
