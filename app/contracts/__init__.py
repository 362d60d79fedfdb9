"""What clients may ask for and what workers answer: strict models that API and workers share."""
