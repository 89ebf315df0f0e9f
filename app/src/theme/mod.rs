//! Colours, spacing, fonts: the only place that names a colour.
