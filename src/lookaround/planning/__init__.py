"""Problems that need looking ahead, and models that learn them."""
