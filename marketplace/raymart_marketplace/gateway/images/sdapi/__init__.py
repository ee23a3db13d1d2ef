"""AUTOMATIC1111's API (`/sdapi/v1/...`), so that what people have built around their own GPU works with ours."""
