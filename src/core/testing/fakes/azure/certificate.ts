import tls from "node:tls";

/** Of 127.0.0.1 and localhost, signed by itself: Azure's SDKs send no token over plain HTTP. Its key is no secret. */
export const LOOPBACK_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmjCCAT+gAwIBAgIUHs/iV7IoLZkU7URkLZtTrMo0Y5YwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIbG9vcGJhY2swIBcNMjYxMTIzMDgwODQ2WhgPMjEyNjEwMzAw
ODA4NDZaMBMxETAPBgNVBAMMCGxvb3BiYWNrMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEbp443i5umuMInw/yzIzV+ZElyMvZRv4+Q4HlrCu+A43WderLYHFwjWnC
8dFcj+2B1kbywNMZKp1QJSXiJ4B0xKNvMG0wHQYDVR0OBBYEFBO/PlueZEKtJEqk
zIh28I8gdqBCMB8GA1UdIwQYMBaAFBO/PlueZEKtJEqkzIh28I8gdqBCMBoGA1Ud
EQQTMBGHBH8AAAGCCWxvY2FsaG9zdDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49
BAMCA0kAMEYCIQCrjV+QOZ4etzQfLEciQbnOErIdU/Bx4jIUVs+E6bwnzgIhAOTb
Xi1oKF/u9GzKdiYpkaUdS/MjWS3FtAxx2VOUBfPQ
-----END CERTIFICATE-----
`;
export const LOOPBACK_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvU9y2eORo8bqlL+H
1M6pnbE7SOunIlHV5+EstNtOKQqhRANCAARunjjeLm6a4wifD/LMjNX5kSXIy9lG
/j5DgeWsK74DjdZ16stgcXCNacLx0VyP7YHWRvLA0xkqnVAlJeIngHTE
-----END PRIVATE KEY-----
`;

/** Has this process take the loopback servers for what they say they are. Others are given the certificate by NODE_EXTRA_CA_CERTS. */
export function trustLoopback(): void {
  tls.setDefaultCACertificates([...tls.getCACertificates("default"), LOOPBACK_CERTIFICATE]);
}
