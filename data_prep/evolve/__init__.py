"""Makes data that draws: problems whose solution needs a drawing, checked by execution and by pixels."""
