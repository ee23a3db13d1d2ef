"""Lets offers and placements follow a model's aliases (`raymart_marketplace.supply.rollouts`); no money."""
