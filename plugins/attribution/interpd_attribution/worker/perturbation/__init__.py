"""Methods that change features and look what the target becomes: a number for each feature and column."""
