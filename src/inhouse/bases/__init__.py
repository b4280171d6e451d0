"""The bases that come with the package, each a Hugging Face folder. Data only."""
