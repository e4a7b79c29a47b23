"""What fits and evaluations left on disk, as one page for a browser and as panels of a W&B project.

evaluations    reports and cells of grids        fits     the losses of every training seed
local          everything under a runs folder    page     all of it as one HTML file that needs no network
specification  the panels and the keys they show publish  those in W&B: a workspace and a report
"""
