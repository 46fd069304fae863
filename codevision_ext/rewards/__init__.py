"""The composite reward: `terms` measures, `composite` weighs and adds up."""
