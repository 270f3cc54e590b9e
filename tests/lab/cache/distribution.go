package cache

// Distribution returns the ID of the distribution whose packages the lab takes,
// "debian" or "ubuntu"; empty if it cannot be told.
func Distribution() string {
	release, err := readOSRelease("/etc/os-release")
	if err != nil {
		return ""
	}
	return release["ID"]
}
