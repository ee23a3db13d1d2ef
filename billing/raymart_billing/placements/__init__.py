"""Has placements planned in the background (`raymart_marketplace.supply.planning`); no money."""
