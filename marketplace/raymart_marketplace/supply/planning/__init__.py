"""What should run where: from demand, asks, memory, caches and the providers' choices to placements, and why not elsewhere."""
