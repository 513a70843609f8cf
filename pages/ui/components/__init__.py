"""Elements that Streamlit does not have. They run in the browser and use the theme's colours."""
