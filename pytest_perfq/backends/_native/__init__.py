"""What stands behind backend native: how a model becomes a program, in this process or over several. Nothing is imported
here, so that refusing a case stays cheap."""
