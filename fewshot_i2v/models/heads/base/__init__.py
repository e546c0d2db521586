"""What all heads share: the contract and features of clips."""
