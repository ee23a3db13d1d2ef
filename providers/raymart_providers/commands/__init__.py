"""The commands of `raymart-provider`, by what they are for: `serving` runs until a signal, `asking` answers at once."""
