"""Where a request could go: offers by what is looked for, and the routing decision with its reasons."""
