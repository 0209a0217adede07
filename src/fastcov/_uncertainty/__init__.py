"""How surely a fit knows its gains: influence of each cell and condition, bootstraps, resolution."""
