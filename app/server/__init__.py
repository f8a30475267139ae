"""The HTTP endpoint: OpenAI's and Anthropic's wire, over models that live in processes of their own."""
