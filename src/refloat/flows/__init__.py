"""The whole flows, each on one screen: protect, recover, verify."""
