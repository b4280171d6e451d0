"""A whole house that is harmed at random while clients write down what they were promised."""
