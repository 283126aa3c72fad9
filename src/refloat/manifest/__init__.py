"""What ``refloat.yaml`` says: parsed with line numbers, validated, resolved for a region."""
