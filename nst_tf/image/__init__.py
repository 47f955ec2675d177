"""Operations on image arrays in memory."""
