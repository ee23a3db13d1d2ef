"""Background work of what is kept of prompts: its end. The rest is `raymart_marketplace.retention`."""
